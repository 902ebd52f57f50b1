const { POSTRIDER_URL = 'http://127.0.0.1:8080', POSTRIDER_API_KEY = '' } = process.env;

const messages = ['alice', 'bob'].map((name) => ({ to: `user:${name}`, data: `for ${name}` }));
const answer = await fetch(`${POSTRIDER_URL}/v1/push/batch`, {
  method: 'POST',
  headers: { authorization: `Bearer ${POSTRIDER_API_KEY}`, 'content-type': 'application/json' },
  body: JSON.stringify({ messages }),
});
if (!answer.ok) throw new Error((await answer.json()).detail);
console.log(JSON.stringify(await answer.json()));
