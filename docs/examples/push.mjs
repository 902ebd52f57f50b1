const { POSTRIDER_URL = 'http://127.0.0.1:8080', POSTRIDER_API_KEY = '' } = process.env;

const answer = await fetch(`${POSTRIDER_URL}/v1/push`, {
  method: 'POST',
  headers: {
    authorization: `Bearer ${POSTRIDER_API_KEY}`,
    'content-type': 'application/json',
    'idempotency-key': 'order-42',
  },
  body: JSON.stringify({ to: 'user:alice', data: { order: 42 }, ttl: 86400 }),
});
if (!answer.ok) throw new Error((await answer.json()).detail);
console.log(JSON.stringify(await answer.json()));
