// The form: ask the language model through the gateway, or paste what it was asked and what it answered.

import { byId } from "./dom.js";

const form = byId("question");
const { prompt, response, longest } = form.elements;

export const question = {
  get asksModel() {
    return form.elements.way.value === "ask";
  },
  get prompt() {
    return prompt.value;
  },
  get response() {
    return response.value;
  },
  get maxTokens() {
    return Math.max(1, Math.round(Number(longest.value)) || 200);
  },

  // What keeps it from being asked, shown at its field; null if nothing does.
  fault() {
    this.complain("", prompt);
    this.complain("", response);
    if (this.asksModel && prompt.value.trim() === "") return this.complain("Write what to ask the model.", prompt);
    if (!this.asksModel && response.value === "") return this.complain("Paste what the model answered.", response);
    return null;
  },

  complain(sentence, field = response) {
    const place = byId(`${field.id}-error`);
    place.textContent = sentence;
    field.setAttribute("aria-invalid", String(sentence !== ""));
    if (sentence) field.focus();
    return sentence || null;
  },

  // Whether the server has a gateway to the index's model.
  offer({ chat, model }) {
    const ask = byId("way-ask");
    ask.disabled = chat === null;
    form.elements.way.value = chat && response.value === "" ? "ask" : "paste";
    form.dataset.gateway = chat ? "on" : "off";
    byId("way-hint").textContent = chat
      ? `The answer comes from ${model.id}, through this server.`
      : "No language model is connected. Paste what it was asked and what it answered.";
    this.show();
  },

  show() {
    form.dataset.way = this.asksModel ? "ask" : "paste";
    byId("ask").textContent = this.asksModel ? "Ask the model" : "Find the documents";
  },

  onAsk(act) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act();
    });
    form.addEventListener("change", () => this.show());
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  },
};
