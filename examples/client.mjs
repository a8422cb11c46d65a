// Ask a running server from JavaScript (Node 20 or newer, or a browser): nothing to install.
//
//     epidural-dx serve                      # in another window
//     node examples/client.mjs [ADDRESS]
//
// The token of a guarded server is read from EPIDURAL_DX_TOKEN. A page of another origin needs
// `epidural-dx serve --allow-origin ORIGIN`.

const address = process.argv[2] ?? "http://127.0.0.1:8765";
const token = process.env.EPIDURAL_DX_TOKEN;

/** Ask one question; wait and ask again where the server is busy. */
async function ask(path, question, tries = 5) {
  const reply = await fetch(address + path, {
    method: question === undefined ? "GET" : "POST",
    headers: {
      "Content-Type": "application/json",
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
    },
    body: question === undefined ? undefined : JSON.stringify(question),
    signal: AbortSignal.timeout(150_000),
  });
  const answer = await reply.json();
  if (reply.ok) return answer;
  if (reply.status === 503 && tries > 1) {
    const seconds = Number(reply.headers.get("Retry-After") ?? 1);
    await new Promise((done) => setTimeout(done, 1000 * seconds));
    return ask(path, question, tries - 1);
  }
  // A problem document (RFC 9457): detail is one sentence; variable, allowed, nearest say more.
  throw Object.assign(new Error(answer.detail), { problem: answer });
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;

const evidence = {
  age_years: 30,
  sex: "male",
  known_thalassemia: "present",
  hemoglobin: "79 g/L",
  enhancement: { not: "rim" },
};
const answer = await ask("/v1/diagnose", { evidence });
console.log(`model ${answer.model.digest.slice(0, 12)}, base rates ${answer.model.scenario}`);
for (const { cause, probability, lower, upper } of answer.causes.slice(0, 3)) {
  console.log(`  ${cause.padEnd(20)} ${percent(probability)} (90 %: ${percent(lower)} to ${percent(upper)})`);
}
console.log("next:");
for (const { test, information_bits, reason } of answer.next_tests.slice(0, 3)) {
  console.log(`  ${test.padEnd(20)} ${information_bits.toFixed(2)} bits  ${reason}`);
}
try {
  await ask("/v1/diagnose", { evidence: { hemoglobn: "79 g/L" } });
} catch (error) {
  console.log(`refused: ${error.message}`);
}
console.log(answer.notice);
