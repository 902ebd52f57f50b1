import os, urllib.request

request = urllib.request.Request(
    os.environ.get("POSTRIDER_URL", "http://127.0.0.1:8080") + "/v1/channels/user:alice",
    headers={"Authorization": "Bearer " + os.environ.get("POSTRIDER_API_KEY", "")},
)
with urllib.request.urlopen(request) as answer:
    print(answer.read().decode())
