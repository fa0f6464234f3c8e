// Talks to the server. The key, where one is wanted, lives in this tab's session storage and travels in one header.

const KEY = "headwater-key";

export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? body?.error?.message ?? `The server answered with status ${status}.`);
    this.status = status;
    this.ours = body?.type?.startsWith("urn:headwater:") ?? false; // and not passed on from the language model
    this.code = body?.error?.code ?? null;
    this.param = body?.error?.param ?? null;
    this.retryAfter = retryAfter;
  }
}

export const rememberKey = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

// The response itself, for what is read as a stream. Throws Refusal; with status 0 when the server is not reached.
export async function send(path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new Refusal(0, { detail: "The server cannot be reached." });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  throw new Refusal(answer.status, problem, Number(answer.headers.get("Retry-After")) || null);
}

export async function call(path, body, signal) {
  return (await send(path, { body, signal })).json();
}
