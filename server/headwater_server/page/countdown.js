// Counts seconds down in an element, then acts. A screen reader hears the sentence once, not every number.

export function countDown(place, seconds, then) {
  const end = performance.now() + 1000 * seconds;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    if (left <= 0) {
      clearInterval(timer);
      then();
    } else place.textContent = String(left);
  };
  const timer = setInterval(tick, 200);
  tick();
  return () => clearInterval(timer);
}
