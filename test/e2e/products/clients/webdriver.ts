/** Selenium's own client, with the server at the root and under `/wd/hub`. */
import assert from 'node:assert/strict';
import { Agent } from 'node:http';
import { Builder, By, error, type WebDriver } from 'selenium-webdriver';
import { Counted } from '../../support/mcp-client.ts';
import { retryingFetch } from '../../support/retrying-fetch.ts';
import type { Target } from '../../support/target.ts';
import {
  callAround,
  createProductSession,
  retryUnavailable,
  type ProductSession,
} from './product-session.ts';

const BASES = ['', '/wd/hub'];
const PAGE = 'http://shop.example/';

export async function runWebDriver(target: Target, midway: () => Promise<void>): Promise<void> {
  const sessions = await Promise.all(BASES.map((base) => openWebDriver(target.url + base)));
  await callAround(sessions, midway);
  for (const session of sessions) await session.end();
}

interface WebDriverSession extends ProductSession {
  end(): Promise<void>;
}

async function openWebDriver(server: string): Promise<WebDriverSession> {
  const driver = await retryUnavailable(isUnavailable, () => connect(server));
  const id = (await driver.getSession()).getId();
  const opened = (await driver.getCapabilities()).get('test:here') as unknown;
  await retryUnavailable(isUnavailable, () => driver.get(PAGE));
  let isTitleNext = true;
  const session = createProductSession(server, Counted.parse(opened), async () => {
    const read = isTitleNext ? titleOf : headingOf;
    isTitleNext = !isTitleNext;
    return Counted.parse(JSON.parse(await retryUnavailable(isUnavailable, () => read(driver))));
  });
  return {
    ...session,
    end: async () => {
      assert.equal(await retryUnavailable(isUnavailable, () => driver.getCurrentUrl()), PAGE);
      await retryUnavailable(isUnavailable, () => driver.quit());
      const ended = await retryingFetch(`${server}/session/${id}/title`);
      assert.equal(ended.status, 404);
    },
  };
}

async function connect(server: string): Promise<WebDriver> {
  return new Builder()
    .usingServer(server)
    .usingHttpAgent(new Agent({ keepAlive: false }))
    .forBrowser('chrome')
    .build();
}

function titleOf(driver: WebDriver): Promise<string> {
  return driver.getTitle();
}

async function headingOf(driver: WebDriver): Promise<string> {
  const heading = await driver.findElement(By.css('h1'));
  return heading.getText();
}

/** The client takes the JSON of a 503 for an error of an old server, which has no text. */
function isUnavailable(failure: unknown): boolean {
  return failure instanceof error.WebDriverError && failure.message === 'undefined';
}
