import json, os, urllib.request

request = urllib.request.Request(
    os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080") + "/v1/push",
    data=json.dumps({"to": "user:alice", "data": {"order": 42}, "ttl": 86400}).encode(),
    headers={
        "Authorization": "Bearer " + os.environ.get("POSTRIDER_API_KEY", ""),
        "Content-Type": "application/json",
        "Idempotency-Key": "order-42",
    },
)
with urllib.request.urlopen(request) as answer:
    print(answer.read().decode())
