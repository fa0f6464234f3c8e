// Talks to the server. The key, where one is wanted, lives in this tab's session storage and travels in one header.

const KEY = "headwater-key";

export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? null;
    this.param = body?.error?.param ?? null;
    this.retryAfter = retryAfter;
  }
}

export const rememberKey = (key) => sessionStorage.setItem(KEY, key);

export async function call(path, question) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (question) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: question ? "POST" : "GET",
    headers,
    body: question ? JSON.stringify(question) : undefined,
  });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, body, Number(answer.headers.get("Retry-After")) || null);
  return body;
}
