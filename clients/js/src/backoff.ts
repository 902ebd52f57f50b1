/** Full jitter: any time below a bound that doubles with each failure, up to a cap. */
export class Backoff {
  #failures = 0;
  readonly #first: number;
  readonly #max: number;

  constructor(first: number, max: number) {
    this.#first = first;
    this.#max = max;
  }

  /** How long to wait. Capped before it is randomised: clamping afterwards would align everyone at the cap. */
  next(): number {
    const bound = Math.min(this.#max, this.#first * 2 ** this.#failures);
    this.#failures += 1;
    return Math.round(Math.random() * bound);
  }

  reset(): void {
    this.#failures = 0;
  }
}
