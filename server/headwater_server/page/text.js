// Text, its words and its tokens. The server counts characters in code points, JavaScript in halves of some of them.

const words = new Intl.Segmenter(undefined, { granularity: "word" });

export const codePoints = (text) => [...text].length;

// Words with the punctuation that touches them, by their places in the string: [{ start, stop }].
export function findWords(text) {
  const found = [];
  for (const { segment, index, isWordLike } of words.segment(text)) {
    if (segment.trim() === "") continue;
    const last = found.at(-1);
    const stop = index + segment.length;
    if (last && last.stop === index && !(isWordLike && last.wordLike)) {
      last.stop = stop;
      last.wordLike ||= isWordLike;
    } else found.push({ start: index, stop, wordLike: isWordLike });
  }
  return found;
}

// Where words stand in code points, as the server wants a span.
export function spanOf(text, start, stop) {
  const before = codePoints(text.slice(0, start));
  return { start: before, stop: before + codePoints(text.slice(start, stop)) };
}

// Tokens by their places in the string: what stands nowhere in it is left out, and the pieces of one character, which
// all have its place, are added up.
export function placeTokens(text, tokens) {
  const places = [0];
  for (const character of text) places.push(places.at(-1) + character.length);
  const placed = [];
  for (const { start, stop, influence } of tokens) {
    if (start === null || stop === null || stop >= places.length) continue;
    const last = placed.at(-1);
    if (last && last.start === places[start] && last.stop === places[stop]) last.influence += influence;
    else placed.push({ start: places[start], stop: places[stop], influence });
  }
  return placed;
}

// The stretch from start to stop, cut where tokens begin and end: [{ text, influence }].
export function cutAtTokens(text, start, stop, placed) {
  const pieces = [];
  let at = start;
  for (const token of placed) {
    if (token.stop <= at || token.start >= stop) continue;
    const from = Math.max(at, token.start);
    if (from > at) pieces.push({ text: text.slice(at, from), influence: 0 });
    at = Math.min(stop, token.stop);
    pieces.push({ text: text.slice(from, at), influence: token.influence });
  }
  if (at < stop) pieces.push({ text: text.slice(at, stop), influence: 0 });
  return pieces;
}
