// Send usage events from Node 18 or newer, without packages:
//   METERKIT_URL=http://localhost:8700 METERKIT_KEY=... node send.mjs acme request-17 request-18

import { pathToFileURL } from "node:url";

const SERVICE = process.env.METERKIT_URL ?? "http://localhost:8700";
const KEY = process.env.METERKIT_KEY ?? "";

/** One event; `id` names the piece of work, and stays the same when it is sent again. */
export function creditScore(company, id) {
  return {
    specversion: "1.0",
    type: "credit-score",
    source: "score-api",
    id,
    subject: company,
    time: new Date().toISOString(),
  };
}

/**
 * Send events, again and again until the service has them; each counts once all the same.
 * Throws if the service refuses them: that is a mistake in the program, and no further try would help.
 */
export async function send(events) {
  for (let wait = 100; ; wait = Math.min(2 * wait, 30_000)) {
    let seconds = 0;
    try {
      const response = await fetch(`${SERVICE}/v1/events`, {
        method: "POST",
        headers: { Authorization: `Bearer ${KEY}`, "Content-Type": "application/cloudevents-batch+json" },
        body: JSON.stringify(events),
        signal: AbortSignal.timeout(10_000),
      });
      const said = await response.text();
      if (response.ok) return JSON.parse(said);
      if (response.status < 500 && response.status !== 408 && response.status !== 429) {
        throw new RefusedError(`${response.status}: ${said}`);
      }
      seconds = Number(response.headers.get("retry-after") ?? 0);
    } catch (error) {
      if (error instanceof RefusedError) throw error;
      console.error(`no response, sending again: ${error.cause ?? error}`);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(1000 * seconds, wait * (0.5 + Math.random()))));
  }
}

export class RefusedError extends Error {}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [company, ...ids] = process.argv.slice(2);
  console.log(JSON.stringify(await send(ids.map((id) => creditScore(company, id)))));
}
