curl -sS "${POSTRIDER_URL:-http://127.0.0.1:8080}/v1/channels/user:alice" \
  -H "authorization: Bearer ${POSTRIDER_API_KEY:-}"
