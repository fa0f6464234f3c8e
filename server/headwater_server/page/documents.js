// Draws an answer. Everything from the server goes in as text, never as markup.

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const LONG = 480; // characters shown before "Show all"

export function drawSources(list, sources) {
  list.replaceChildren(
    ...sources.map(({ source, share, documents }) => {
      const row = element("li");
      const name = element("span", "source-name", source ?? "no source");
      const bar = element("meter", "source-bar");
      bar.max = 1;
      bar.value = share;
      bar.setAttribute("aria-hidden", "true");
      const figure = element("span", "source-share", percent.format(share));
      figure.title = `${documents} ${documents === 1 ? "document" : "documents"}`;
      row.append(name, bar, figure);
      return row;
    }),
  );
}

export function drawDocuments(list, documents) {
  list.replaceChildren(...documents.map(drawDocument));
}

function drawDocument(found) {
  const item = element("li", "document");
  const head = element("header", "document-head");
  const title = element("div", "document-title");
  title.append(element("span", "rank", String(found.rank)), element("span", "document-id", found.document_id));
  const figures = element("dl", "figures");
  figures.append(
    figure("score", number.format(found.score)),
    figure("percentile", number.format(found.percentile)),
    figure("source", found.source ?? "none"),
  );
  head.append(title, figures);
  item.append(head);
  if (found.prompt) item.append(element("p", "document-prompt", found.prompt));
  if (found.text !== null) item.append(...drawText(found.text));
  return item;
}

function figure(name, value) {
  const pair = element("div");
  pair.append(element("dt", "", name), element("dd", "", value));
  return pair;
}

function drawText(text) {
  const body = element("p", "document-text", text);
  if (text.length <= LONG) return [body];
  const short = `${text.slice(0, LONG).trimEnd()} …`;
  const more = element("button", "more", "Show all");
  more.type = "button";
  more.setAttribute("aria-expanded", "false");
  body.textContent = short;
  more.addEventListener("click", () => {
    const open = more.getAttribute("aria-expanded") !== "true";
    more.setAttribute("aria-expanded", String(open));
    more.textContent = open ? "Show less" : "Show all";
    body.textContent = open ? text : short;
  });
  return [body, more];
}
