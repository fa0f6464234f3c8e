// Credit by source: a bar for each, the largest first, and a way to search one source alone.

import { button, element } from "./dom.js";
import { documents, share } from "./numbers.js";

const SHOWN = 6; // the rest is summed up

export function drawSources(sources, only) {
  const shown = sources.slice(0, sources.length > SHOWN ? SHOWN - 1 : SHOWN);
  const rest = sources.slice(shown.length);
  const list = element("ul", "sources", ...shown.map((one) => drawSource(one, only)));
  if (rest.length) {
    const sum = (name) => rest.reduce((total, one) => total + one[name], 0);
    const others = { source: `${rest.length} others`, share: sum("share"), documents: sum("documents") };
    list.append(drawSource(others, null));
  }
  return element("section", "panel", element("h3", "", "Credit by source, of those shown"), list);
}

function drawSource({ source, share: part, documents: count }, only) {
  const bar = element("span", "bar", element("span", "bar-fill"));
  bar.firstChild.style.setProperty("--part", String(part));
  bar.setAttribute("aria-hidden", "true");
  const figure = element("span", "source-share", share(part));
  figure.title = documents(count);
  return element("li", "", drawName(source, only), bar, figure);
}

function drawName(source, only) {
  if (source === null || only === null) return element("span", "source-name", source ?? "no source");
  const name = button("source-name", source, () => only(source));
  name.title = `Search only documents of ${source}`;
  name.dir = "auto";
  return name;
}
