// How an answer is looked at: which documents, by which score, from which source, beside which baseline.

import { byId, element } from "./dom.js";

const form = byId("lens");
const { index, top, score, source, compare } = form.elements;

export const lens = {
  get sign() {
    return form.elements.sign.value;
  },
  get compares() {
    return compare.checked;
  },
  get source() {
    return source.value.trim();
  },
  get index() {
    return index.value || "default";
  },

  // As the server is asked; what is the default is said too, so that it is in the downloaded question.
  options() {
    const filters = this.source ? { must: [{ key: "source", equals: this.source }] } : undefined;
    const asked = { index: this.index, top_k: this.count(), score: score.value, sign: this.sign, histogram: true };
    return filters ? { ...asked, filters } : asked;
  },

  baselineOptions() {
    return { ...this.options(), method: "bm25", sign: "positive", histogram: undefined };
  },

  count() {
    const most = Number(top.max);
    const count = Math.min(most, Math.max(1, Math.round(Number(top.value)) || 10));
    top.value = String(count);
    return count;
  },

  take(state) {
    if ([...index.options].some(({ value }) => value === state.index)) index.value = state.index;
    top.value = state.top;
    if ([...score.options].some(({ value }) => value === state.score)) score.value = state.score;
    form.elements.sign.value = state.sign === "negative" ? "negative" : "positive";
    source.value = state.source;
    compare.checked = state.compare === "bm25";
  },

  state() {
    const compared = compare.checked ? "bm25" : "";
    return { index: this.index, top: top.value, score: score.value, sign: this.sign, source: this.source, compare: compared };
  },

  only(name) {
    source.value = name;
  },

  // The indexes of the server, and the one that the address names.
  offer(indexes, wanted) {
    index.replaceChildren(...indexes.map(({ name }) => new Option(name, name)));
    const names = indexes.map(({ name }) => name);
    index.value = [wanted, "default"].find((name) => names.includes(name)) ?? names[0];
    index.disabled = indexes.length < 2;
  },

  fit(documents) {
    top.max = String(Math.min(1000, documents));
    this.count();
  },

  suggest(sources) {
    byId("sources-known").replaceChildren(...sources.filter(Boolean).map((name) => element("option", "", name)));
  },

  onChange(act) {
    form.addEventListener("change", act);
    form.addEventListener("submit", (event) => event.preventDefault());
  },
};
