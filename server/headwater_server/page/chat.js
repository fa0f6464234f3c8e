// Asks the language model through the gateway; its words come as a stream, the attribution last.

import { Refusal, send } from "./server.js";

// Yields { text } as the model speaks, then { attribution } once. Throws Refusal.
export async function* converse(chat, prompt, maxTokens, attribution, signal) {
  const asked = chat.messages ? { messages: [{ role: "user", content: prompt }] } : { prompt };
  const body = { model: chat.model, ...asked, max_tokens: maxTokens, stream: true, attribution };
  const answer = await ask(chat.messages ? "/v1/chat/completions" : "/v1/completions", { body, signal });
  for await (const event of events(answer.body)) {
    if (event.error) throw new Refusal(502, { error: event.error });
    const choice = event.choices?.[0];
    const text = choice?.delta?.content ?? choice?.text;
    if (text) yield { text };
    if (event.attribution) yield { attribution: event.attribution };
  }
}

async function ask(path, request) {
  try {
    return await send(path, request);
  } catch (refusal) {
    if (refusal.status > 0 && refusal.status !== 429 && !refusal.ours) refusal.code = "upstream_refuses";
    throw refusal;
  }
}

// The objects of server-sent events, up to [DONE].
async function* events(body) {
  let held = "";
  try {
    for await (const part of parts(body.pipeThrough(new TextDecoderStream()))) {
      const lines = (held + part).split(/\r?\n/);
      held = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } catch (failure) {
    if (failure.name === "AbortError" || failure instanceof Refusal) throw failure;
    throw new Refusal(502, { detail: "The language model broke off in the middle of its answer." });
  }
}

// Not every browser iterates over a stream by itself.
async function* parts(stream) {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
