curl -sS "${POSTRIDER_URL:-http://127.0.0.1:8080}/v1/push/batch" \
  -H "authorization: Bearer ${POSTRIDER_API_KEY:-}" \
  -H 'content-type: application/json' \
  -d '{"messages": [{"to": "user:alice", "data": "for you"}, {"to": "user:bob", "data": "and for you"}]}'
