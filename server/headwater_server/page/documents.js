// The documents of an answer, most influential first; one of them is looked into, word by word.

import { button, element } from "./dom.js";
import { ordinal, percentile, score } from "./numbers.js";
import { shaded, unshaded } from "./shading.js";

const LONG = 420; // characters, above which a text is folded

// `others` are the ranks of the same documents by the other method, null when there is none; `look` shades one of them.
export function drawDocuments(found, { otherName, others, look }) {
  const strongest = Math.max(...found.map((one) => Math.abs(one.score)), 1e-300);
  const list = element("ol", "documents");
  list.append(
    ...found.map((one) => {
      const parts = [drawHead(one, strongest), drawFigures(one, otherName, others)];
      const card = element("li", "document", ...parts, ...drawBody(one, look));
      card.dataset.document = one.document_id;
      return card;
    }),
  );
  return list;
}

function drawHead({ rank, document_id: id, score: value }, strongest) {
  const bar = element("span", `bar ${value < 0 ? "minus" : ""}`, element("span", "bar-fill"));
  bar.firstChild.style.setProperty("--part", String(Math.abs(value) / strongest));
  bar.setAttribute("aria-hidden", "true");
  const name = element("h3", "document-id", id);
  name.dir = "auto";
  const figure = element("span", "score", element("span", "visually-hidden", "score "), score(value));
  return element("header", "document-head", element("span", "rank", String(rank)), name, bar, figure);
}

function drawFigures({ source, percentile: part, document_id: id }, otherName, others) {
  const place = element("span", "", `percentile ${percentile(part)}`);
  place.title = `${percentile(part)} % of the documents searched score lower`;
  const from = element("span", "", "from ", element("bdi", "", source ?? "no source"));
  const parts = [from, place];
  if (others) {
    const rank = others.get(id);
    parts.push(element("span", rank ? "also" : "", rank ? `${ordinal(rank)} by ${otherName}` : `not found by ${otherName}`));
  }
  return element("p", "document-figures", ...parts);
}

function drawBody(one, look) {
  if (one.text === null) return [element("p", "withheld", "This server tells no document’s text.")];
  const body = element("p", "document-text", one.text);
  body.dir = "auto";
  const prompt = one.prompt ? element("p", "document-prompt", one.prompt) : null;
  if (prompt) prompt.dir = "auto";
  const actions = element("div", "document-actions");
  if (one.text.length > LONG) actions.append(drawUnfold(body));
  if (look) actions.append(drawLook(one, look));
  const facts = Object.entries(one.metadata ?? {});
  if (facts.length) actions.append(drawFacts(facts));
  return [prompt, body, actions];
}

function drawUnfold(body) {
  body.classList.add("folded");
  const unfold = button("quiet", "Show all", () => {
    const folded = body.classList.toggle("folded");
    unfold.textContent = folded ? "Show all" : "Show less";
    unfold.setAttribute("aria-expanded", String(!folded));
  });
  unfold.setAttribute("aria-expanded", "false");
  return unfold;
}

function drawLook(one, look) {
  const made = button("quiet look", "Shade its words", () => look(one.document_id));
  made.setAttribute("aria-pressed", "false");
  return made;
}

function drawFacts(facts) {
  const list = element("dl", "facts");
  for (const [name, value] of facts) {
    list.append(element("dt", "", name), element("dd", "", typeof value === "string" ? value : JSON.stringify(value)));
  }
  return element("details", "", element("summary", "", "Metadata"), list);
}

// Shades the one that is looked into, and no other.
export function shadeDocument(list, found, id, tokens) {
  for (const card of list.children) {
    const mine = card.dataset.document === id;
    const text = found.find((one) => one.document_id === card.dataset.document)?.text;
    card.classList.toggle("looked-into", mine);
    card.querySelector(".look")?.setAttribute("aria-pressed", String(mine));
    if (text) card.querySelector(".document-text").replaceChildren(...draw(text, mine ? tokens : null));
  }
}

const draw = (text, tokens) => (tokens ? shaded(text, tokens) : unshaded(text)).part(0, text.length);
