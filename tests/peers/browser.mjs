// Open pages in headless Chromium with software WebGL and save what they show.
//
//   node browser.mjs JOB.json
//
// A job is {"chromium": path, "size": [width, height], "shots": [{"url", "out", "steps": [...]}]}.
// Steps: {"evaluate": script}, {"waitFor": script}, {"wait": ms}, {"click": button name},
// {"shot": path}, {"download": [button name, path]}, {"drag": [[x, y], [x, y]]}. Prints one JSON line
// per page: {"errors": [...], "requests": [...], "values": [...]}.
// Only addresses of this machine can be reached.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// Packages live outside the repository: in the folder that ZIPSPLAT_PEERS names.
const { chromium } = createRequire(join(process.env.ZIPSPLAT_PEERS, "package.json"))("playwright-core");

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
  "--disable-background-networking", "--disable-component-update", "--use-gl=angle",
  "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

async function run(page, step) {
  if (step.evaluate) return page.evaluate(step.evaluate);
  if (step.waitFor) await page.waitForFunction(step.waitFor, null, { timeout: 120_000 });
  if (step.wait) await page.waitForTimeout(step.wait);
  if (step.click) await page.getByRole("button", { name: step.click }).click();
  if (step.shot) await page.screenshot({ path: step.shot });
  if (step.drag) {
    await page.mouse.move(...step.drag[0]);
    await page.mouse.down();
    await page.mouse.move(...step.drag[1], { steps: 5 });
    await page.mouse.up();
  }
  if (step.download) {
    const waiting = page.waitForEvent("download");
    await page.getByRole("button", { name: step.download[0] }).click();
    await (await waiting).saveAs(step.download[1]);
  }
  return null;
}

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const browser = await chromium.launch({ executablePath: job.chromium, headless: true, args: FLAGS });
try {
  const [width, height] = job.size;
  for (const { url, init, steps } of job.shots) {
    const context = await browser.newContext({ viewport: { width, height }, reducedMotion: "reduce" });
    const page = await context.newPage();
    const errors = [];
    const requests = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (line) => line.type() === "error" && errors.push(line.text()));
    page.on("request", (request) => requests.push(request.url().slice(0, 200)));
    if (init) await page.addInitScript(init);
    await page.goto(url);
    const values = [];
    for (const step of steps) values.push(await run(page, step));
    console.log(JSON.stringify({ errors, requests, values }));
    await context.close();
  }
} finally {
  await browser.close();
}
