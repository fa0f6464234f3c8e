// The scores of all documents that were searched, and where those shown stand among them.

import { drawing, element } from "./dom.js";
import { documents, score, whole } from "./numbers.js";

const WIDTH = 480;
const HEIGHT = 96;

export function drawHistogram({ low, high, counts }, shown) {
  const searched = counts.reduce((sum, count) => sum + count, 0);
  const [least, most] = [Math.min(...shown), Math.max(...shown)];
  const step = (high - low) / counts.length || 1;
  const holds = (n) => shown.some((value) => Math.min(counts.length - 1, Math.floor((value - low) / step)) === n);
  const picture = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  picture.setAttribute(
    "aria-label",
    `Scores of ${documents(searched)}, from ${score(low)} to ${score(high)}; those shown score ${score(least)} to ${score(most)}.`,
  );
  picture.append(...counts.map((count, n) => drawBar(count, n, counts, holds(n))));
  if (low < 0 && high > 0) picture.append(drawZero((-low / (high - low)) * WIDTH));
  const ends = element("p", "ends", element("span", "", score(low)), element("span", "", score(high)));
  ends.setAttribute("aria-hidden", "true");
  const title = element("h3", "", `Scores of ${searched === 1 ? "the one document" : `all ${whole(searched)} documents`}`);
  const note = element("p", "note", element("span", "key-mark"), "where those shown stand. Heights are logarithmic.");
  return element("section", "panel", title, picture, ends, note);
}

// One document has to be seen beside thousands, so heights grow with the logarithm.
function drawBar(count, n, counts, found) {
  const height = (HEIGHT * Math.log1p(count)) / Math.log1p(Math.max(...counts));
  const width = WIDTH / counts.length;
  const shape = { x: n * width + 0.5, y: HEIGHT - height, width: width - 1, height };
  return drawing("rect", { ...shape, class: found ? "bin found" : "bin" });
}

const drawZero = (x) => drawing("line", { x1: x, x2: x, y1: 0, y2: HEIGHT, class: "zero" });
