// The Standard Webhooks library for JavaScript, asked by signatures.py: a line of JSON in (secret, headers, and the body in
// base64), a line of JSON out: what it has verified, or why it refuses.

const { createInterface } = require("node:readline");
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

function verdict({ secret, headers, body }) {
  try {
    return { verified: new Webhook(secret).verify(Buffer.from(body, "base64"), headers) };
  } catch (error) {
    if (error instanceof WebhookVerificationError) return { refused: error.message };
    throw error;
  }
}

createInterface({ input: process.stdin }).on("line", (line) => console.log(JSON.stringify(verdict(JSON.parse(line)))));
