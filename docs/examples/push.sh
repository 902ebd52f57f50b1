curl -sS "${POSTRIDER_URL:-http://127.0.0.1:8080}/v1/push" \
  -H "authorization: Bearer ${POSTRIDER_API_KEY:-}" \
  -H 'content-type: application/json' \
  -H 'Idempotency-Key: order-42' \
  -d '{"to": "user:alice", "data": {"order": 42}, "ttl": 86400}'
