// Numbers as a person reads them.

const scores = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, minimumSignificantDigits: 3 });
const large = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const shares = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });
const percentiles = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const ordinals = new Intl.PluralRules("en", { type: "ordinal" });
const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };

export const whole = (value) => large.format(value);
export const share = (value) => shares.format(value);
export const percentile = (value) => percentiles.format(value);
export const ordinal = (value) => `${whole(value)}${ENDINGS[ordinals.select(value)]}`;
export const documents = (count) => `${whole(count)} ${count === 1 ? "document" : "documents"}`;

export function score(value) {
  const size = Math.abs(value);
  const tiny = size > 0 && size < 0.001;
  const text = tiny ? value.toExponential(1) : size >= 1000 ? large.format(value) : scores.format(value);
  return text.replaceAll("-", "−");
}
