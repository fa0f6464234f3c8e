// An answer's documents, with the credit of their sources and the spread of all scores above them.

import { drawBaseline, ranks } from "./baseline.js";
import { byId, element } from "./dom.js";
import { drawDocuments, shadeDocument } from "./documents.js";
import { drawHistogram } from "./histogram.js";
import { documents, whole } from "./numbers.js";
import { drawSources } from "./sources.js";
import { leaveState } from "./states.js";

const place = byId("result");
let list = null;

export const result = {
  // Everything is drawn anew, so that nothing on the screen is moved about.
  show(attribution, { baseline, look, only }) {
    const found = attribution.data;
    const others = baseline?.data ? ranks(baseline.data.filter((one) => one.score > 0)) : null;
    list = drawDocuments(found, { otherName: "BM25", others, look });
    const lists = element("div", baseline ? "lists beside" : "lists", list);
    if (baseline) lists.append(drawBaseline(baseline, found));
    const overview = element("div", "overview", drawSources(attribution.sources, only));
    if (attribution.histogram) overview.append(drawHistogram(attribution.histogram, found.map(({ score }) => score)));
    if (place.contains(document.activeElement)) byId("found").focus({ preventScroll: true });
    place.replaceChildren(overview, lists, drawFootnote(attribution));
    leaveState();
    this.wait(false);
    place.hidden = false;
    byId("download").disabled = false;
  },

  shade(found, id, tokens) {
    shadeDocument(list, found, id, tokens);
  },

  // An answer before stays, faded, while the next one is waited for.
  wait(waiting) {
    place.setAttribute("aria-busy", String(waiting));
    place.inert = waiting && !place.contains(document.activeElement);
    return !place.hidden;
  },

  hide() {
    place.hidden = true;
    place.replaceChildren();
    byId("download").disabled = true;
  },
};

function drawFootnote({ index, usage, timings_ms: timings, method, id }) {
  const searched = index.searched ?? index.documents;
  const part = searched === index.documents ? documents(searched) : `${whole(searched)} of ${documents(index.documents)}`;
  const tokens = `${whole(usage.counted_tokens ?? usage.response_tokens)} tokens asked about`;
  const how = `${method.projection} projection, ${method.hessian} Hessian, ${method.score} score`;
  return element("p", "footnote", `${part} searched · ${tokens} · ${whole(timings.total)} ms · ${how} · ${id}`);
}
