// What is looked at stands in the address after the #, so that it can be kept and sent; the prompt never does.

const DEFAULTS = { index: "default", top: "10", score: "relatif", sign: "positive", source: "", compare: "", id: "" };

export function readFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
}

export function writeFragment(state) {
  const said = Object.entries(DEFAULTS).filter(([name, value]) => state[name] && state[name] !== value);
  const fragment = new URLSearchParams(said.map(([name]) => [name, state[name]])).toString();
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname);
}
