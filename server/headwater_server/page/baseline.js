// What a search for the same words finds, beside what influence finds.

import { element } from "./dom.js";
import { drawDocuments } from "./documents.js";

export const ranks = (found) => new Map(found.map(({ document_id: id, rank }) => [id, rank]));

export function drawBaseline(baseline, influential) {
  const title = element("h3", "", "By words in common (BM25)");
  const section = element("section", "baseline", title);
  if (baseline.refusal) {
    section.append(element("p", "note", `There is nothing to compare with: ${baseline.refusal.message}`));
    return section;
  }
  const found = baseline.data.filter((one) => one.score > 0);
  const shared = found.filter((one) => influential.some((other) => other.document_id === one.document_id)).length;
  const sentence = found.length
    ? `${shared} of these ${found.length} are among the influential ones. Words in common are no influence.`
    : "No document has a word in common with the question.";
  section.append(element("p", "note", sentence));
  if (found.length) section.append(drawDocuments(found, { otherName: "influence", others: ranks(influential), look: null }));
  return section;
}
