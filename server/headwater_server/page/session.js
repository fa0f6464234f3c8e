// One question and what is known of its answer. The latest thing that was asked is the only one that is shown.

import { answer } from "./answer.js";
import { converse } from "./chat.js";
import { byId } from "./dom.js";
import { download } from "./download.js";
import { writeFragment } from "./fragment.js";
import { lens } from "./lens.js";
import { looking } from "./looking.js";
import { question } from "./question.js";
import { showNonePass, showRefusal } from "./refusals.js";
import { result } from "./result.js";
import { Refusal, call } from "./server.js";
import { showState } from "./states.js";

export class Session {
  index = null; // what the server says of it
  #pair = null; // { prompt or messages, response }, once there is a response to ask about
  #found = null; // { asked, attribution, baseline }
  #abort = new AbortController(); // of what is under way
  #speech = new AbortController(); // of the model's speaking alone

  // Asks what the form holds.
  ask() {
    this.forget();
    answer.begin(question.prompt);
    byId("reading").focus();
    if (question.asksModel) return this.#run((signal) => this.#converse(signal), "answering");
    this.#pair = { prompt: question.prompt, response: question.response };
    answer.show(question.response);
    return this.look();
  }

  // Asks again about the same answer, as the lens and the chosen words say.
  look() {
    if (this.#pair) this.#run((signal) => this.#attribute(signal));
  }

  // What the server has kept of a chat; neither prompt nor answer is known.
  recall(id) {
    const path = `/v1/attributions/${encodeURIComponent(id)}`;
    this.#run(async (signal) => this.#show(await call(path, undefined, signal), null, {}));
  }

  // The model is to say no more; what it has said is asked about.
  stop() {
    this.#speech.abort();
  }

  forget() {
    this.#abort.abort();
    this.#pair = this.#found = null;
    looking.forget();
    result.hide();
  }

  download() {
    const { asked, attribution, baseline } = this.#found;
    const known = { question: { ...this.#pair, ...asked }, attribution, baseline, explanations: looking.known() };
    download(`${attribution.id}.json`, known);
  }

  async #run(work, state = "loading") {
    this.#abort.abort();
    const mine = (this.#abort = new AbortController());
    if (!result.wait(true)) showState(state);
    try {
      await work(mine.signal);
    } catch (refusal) {
      if (mine !== this.#abort || refusal.name === "AbortError") return;
      if (!(refusal instanceof Refusal)) throw refusal;
      result.hide();
      const again = refusal.attributing ? () => this.look() : () => this.#run(work, state);
      showRefusal(refusal, { again, back: () => byId("another").click() });
    }
  }

  async #converse(signal) {
    const { prompt } = question;
    const { chat } = this.index;
    const asked = lens.options();
    const { said, attribution } = await this.#listen(chat, prompt, asked, signal);
    if (!said) throw new Refusal(502, { detail: "The language model answered with nothing." });
    answer.show(said);
    if (attribution?.status === "unsupported_model") throw unattributed(attribution);
    const before = chat.messages ? { messages: [{ role: "user", content: prompt }] } : { prompt };
    this.#pair = { ...before, response: said };
    if (attribution === null) return this.#attribute(signal); // it was stopped
    if (attribution.status !== "completed") throw unattributed(attribution);
    this.#show(attribution, await this.#baseline(signal), asked);
    writeFragment({ ...lens.state(), id: attribution.id });
  }

  async #listen(chat, prompt, asked, signal) {
    this.#speech = new AbortController();
    const either = AbortSignal.any([signal, this.#speech.signal]);
    let said = "";
    let attribution = null;
    answer.begin(prompt);
    byId("stop").hidden = false;
    try {
      for await (const heard of converse(chat, prompt, question.maxTokens, asked, either)) {
        if (heard.text) answer.hear(heard.text);
        said += heard.text ?? "";
        attribution = heard.attribution ?? attribution;
      }
    } catch (failure) {
      if (!this.#speech.signal.aborted || signal.aborted || !said) throw failure;
    } finally {
      byId("stop").hidden = true;
      if (!said && !signal.aborted) answer.leave();
    }
    return { said, attribution };
  }

  async #attribute(signal) {
    const { span } = answer;
    const asked = span ? { ...lens.options(), span } : lens.options();
    const both = [call("/v1/attribute", { ...this.#pair, ...asked }, signal), this.#baseline(signal)];
    const [attribution, baseline] = await Promise.all(both);
    this.#show(attribution, baseline, asked);
    writeFragment(lens.state());
  }

  // By words in common, if that is to be compared; that it fails fails nothing else.
  async #baseline(signal) {
    if (!lens.compares) return null;
    try {
      return await call("/v1/attribute", { ...this.#pair, ...lens.baselineOptions() }, signal);
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      return { refusal };
    }
  }

  #show(attribution, baseline, asked) {
    this.#found = { asked, attribution, baseline };
    const only = (source) => {
      lens.only(source);
      this.look();
    };
    if (attribution.data.length === 0) {
      result.hide();
      showNonePass(() => only(""));
      return;
    }
    const explains = this.index.explains && this.#pair !== null;
    lens.suggest(attribution.sources.map(({ source }) => source));
    result.show(attribution, { baseline, only: this.#pair && only, look: explains ? (id) => looking.at(id) : null });
    looking.begin({ ...this.#pair, index: asked.index, span: asked.span }, attribution.data, explains);
  }
}

function unattributed(attribution) {
  const refusal = new Refusal(null, attribution);
  refusal.attributing = true;
  return refusal;
}
