/** What a sidecar reports on its admin port. */
import { get } from 'node:http';
import { text } from 'node:stream/consumers';

export interface Readiness {
  readonly isReady: boolean;
  /** The whole response, or why there is none. */
  readonly text: string;
}

/** Never rejects. */
export async function readReadiness(port: number): Promise<Readiness> {
  try {
    const response = await query(port, '/readyz');
    return { isReady: response.status === 200, text: response.text };
  } catch (error) {
    return { isReady: false, text: String(error) };
  }
}

export interface Metrics {
  /** The sum over all labels; 0 if there is none of that name. */
  sum(name: string): number;
  /** All gauges of open things: `fly_affinity_open_streams{kind="http"}` and such. */
  open(): ReadonlyMap<string, number>;
}

const SAMPLE = /^([a-z_]+)(?:\{.*\})? (\S+)$/i;
const OPEN = 'fly_affinity_open_';

export async function readMetrics(port: number): Promise<Metrics> {
  const response = await query(port, '/metrics');
  const samples = response.text.split('\n').flatMap((line) => {
    const [, name, value] = SAMPLE.exec(line) ?? [];
    if (name === undefined) return [];
    return [{ name, series: line.slice(0, line.lastIndexOf(' ')), value: Number(value) }];
  });
  return {
    sum: (name) =>
      samples.reduce((sum, sample) => (sample.name === name ? sum + sample.value : sum), 0),
    open: () =>
      new Map(
        samples
          .filter(({ name }) => name.startsWith(OPEN))
          .map(({ series, value }) => [series, value]),
      ),
  };
}

/** On its own connection, which leaves no descriptor behind. */
function query(port: number, path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      text(response).then((body) => {
        resolve({ status: response.statusCode ?? 0, text: body });
      }, reject);
    });
    request.on('error', reject);
  });
}
