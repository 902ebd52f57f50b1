const { POSTRIDER_URL = 'http://127.0.0.1:8080', POSTRIDER_API_KEY = '' } = process.env;

const answer = await fetch(`${POSTRIDER_URL}/v1/channels/${encodeURIComponent('user:alice')}`, {
  headers: { authorization: `Bearer ${POSTRIDER_API_KEY}` },
});
if (!answer.ok) throw new Error((await answer.json()).detail);
console.log(JSON.stringify(await answer.json()));
