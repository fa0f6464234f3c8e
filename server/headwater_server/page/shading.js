// Influence as shades: five of each sign, beside the strongest token of its text.

import { element } from "./dom.js";
import { cutAtTokens, placeTokens } from "./text.js";

const SHADES = 5;

// Draws text whose tokens are known into nodes; `strongest` is the influence that gets the darkest shade.
export function shaded(text, tokens) {
  const placed = placeTokens(text, tokens);
  const strongest = Math.max(0, ...placed.map(({ influence }) => Math.abs(influence)));
  return {
    part: (start, stop) => cutAtTokens(text, start, stop, placed).map((piece) => drawPiece(piece, strongest)),
  };
}

export const unshaded = (text) => ({ part: (start, stop) => [text.slice(start, stop)] });

function drawPiece({ text, influence }, strongest) {
  const shade = strongest > 0 ? Math.round((SHADES * Math.abs(influence)) / strongest) : 0;
  if (shade === 0 || text.trim() === "") return text;
  return element("span", `shade ${influence > 0 ? "for" : "against"}-${shade}`, text);
}
