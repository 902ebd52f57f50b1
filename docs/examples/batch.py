import json, os, urllib.request

messages = [{"to": f"user:{name}", "data": f"for {name}"} for name in ("alice", "bob")]
request = urllib.request.Request(
    os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080") + "/v1/push/batch",
    data=json.dumps({"messages": messages}).encode(),
    headers={
        "Authorization": "Bearer " + os.environ.get("POSTRIDER_API_KEY", ""),
        "Content-Type": "application/json",
    },
)
with urllib.request.urlopen(request) as answer:
    print(answer.read().decode())
