// The credit-score API of the other examples, in Node and without any billing: `meterkit proxy` meters it from outside.
//
// To run:  node app.mjs
//          meterkit proxy billing:kit --upstream http://127.0.0.1:3000
// Then:    curl -H 'X-Api-Key: key-of-acme' --json '{"person": "ada"}' localhost:8080/RetrieveCreditScore
//          meterkit usage billing:kit
import { createServer } from "node:http";

const SCORES = new Map([["ada", 810], ["grace", 790], ["linus", 640]]);
const DOWN_FOR = "nobody@home";

function scoreOf(text) {
  let person;
  try {
    person = JSON.parse(text).person;
  } catch {
    return [400, { error: "the body is not JSON" }];
  }
  if (typeof person !== "string") return [422, { error: "person must be a string" }];
  if (person === DOWN_FOR) return [503, { error: "the bureau does not respond" }];
  if (!SCORES.has(person)) return [404, { error: "no such person" }];
  return [200, { person, score: SCORES.get(person) }];
}

const server = createServer(async (request, response) => {
  let [status, answer] = [404, { error: "no such page" }];
  if (request.method === "POST" && request.url === "/RetrieveCreditScore") {
    const pieces = [];
    try {
      for await (const piece of request) pieces.push(piece);
    } catch {
      return; // the client has left
    }
    [status, answer] = scoreOf(Buffer.concat(pieces).toString());
  }
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
});

server.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
