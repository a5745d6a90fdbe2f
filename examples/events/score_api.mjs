// The credit-score API in Node, billed by meterkit:  PORT=3000 METERKIT_URL=... METERKIT_KEY=... node score_api.mjs
//
// Each score that was delivered becomes an event. Events wait in memory for a tenth of a second, and are sent in batches
// of up to 100. A program that must not lose those of its last moment keeps them in its database until they are sent.

import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { creditScore, send } from "./send.mjs";

const SCORES = new Map([["ada", 810], ["grace", 790], ["linus", 640]]);
const COMPANIES = new Map([["key-of-acme", "acme"], ["key-of-globex", "globex"]]); // by API key

const waiting = [];
let sending = Promise.resolve();

function bill(company, requestId) {
  waiting.push(creditScore(company, requestId));
}

async function sendAll() {
  while (waiting.length > 0) {
    const batch = waiting.slice(0, 100);
    try {
      await send(batch);
    } catch (error) {
      console.error(`to be corrected, and sent again: ${JSON.stringify(batch)}: ${error.message}`);
    }
    waiting.splice(0, batch.length);
  }
}

const timer = setInterval(() => {
  sending = sending.then(sendAll);
}, 100);

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const company = COMPANIES.get(request.headers["x-api-key"]);
    const person = new URLSearchParams(body).get("person");
    const status = request.method !== "POST" ? 405 : !company ? 401 : SCORES.has(person) ? 200 : 404;
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(status === 200 ? { score: SCORES.get(person) } : { error: status }));
    if (status === 200) bill(company, randomUUID());
  });
});

server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => console.log(server.address().port));

process.on("SIGTERM", () => {
  clearInterval(timer);
  server.close(async () => {
    await sending.then(sendAll);
    process.exit(0);
  });
});
