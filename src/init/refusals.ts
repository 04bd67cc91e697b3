/** Reasons for which `init` writes nothing, and what can be done by hand. */
import type { FlyToml } from '../doctor/fly-toml.ts';
import type { Image } from './image.ts';
import { FOLDER, RUN } from './dockerfile-edit.ts';

export interface Refusal {
  readonly kind: 'refused';
  /** Sentences. */
  readonly why: string;
  /** Lines to write or to run. */
  readonly byHand: readonly string[];
}

export function refuse(why: string, byHand: readonly string[] = []): Refusal {
  return { kind: 'refused', why, byHand };
}

export function refuseConfig(toml: FlyToml): Refusal | undefined {
  if (toml.typeErrors.length > 0) {
    return refuse(`The configuration has mistakes: ${toml.typeErrors.join('; ')}.`);
  }
  if (toml.containers !== undefined) return refuseContainers(toml.containers);
  if (toml.replacesCommand) {
    return refuse(
      '[experimental] has an entrypoint or exec, which replaces the command of the image.',
      [`Put ${RUN.join(' ')} in front of that command, or move it into the Dockerfile.`],
    );
  }
  if (!toml.services.some(({ handlesHttp }) => handlesHttp)) {
    return refuse(
      'There is no service with the http handler: Fly Proxy replays only HTTP requests.',
      ['Add [http_service] with the internal_port of your app.'],
    );
  }
  return undefined;
}

function refuseContainers(kind: 'compose' | 'machine_config'): Refusal {
  const file = kind === 'compose' ? 'the compose file' : 'the machine_config';
  return refuse(
    `A Machine of this app has several containers. The sidecar is one of them, in ${file}, which init does not edit.`,
    [
      'Add a container beside that of the app, as fly-affinity help operations shows under "As a second container":',
      '  name: sidecar',
      '  image: registry.fly.io/my-fly-affinity:latest',
      '  environment: UPSTREAM_URL=http://127.0.0.1:PORT-OF-THE-APP',
      'Then set internal_port of the service to the port of the sidecar, 8080, and run fly-affinity doctor.',
    ],
  );
}

/** `path`: where a Dockerfile was looked for. */
export function refuseWithoutDockerfile({ build }: FlyToml, path: string): Refusal {
  const from = build.image ?? 'THE-IMAGE-OF-YOUR-APP';
  const why =
    build.image !== undefined
      ? `The app is the image ${build.image}, without a Dockerfile.`
      : build.builder !== undefined
        ? `The app is built by buildpacks (${build.builder}), without a Dockerfile.`
        : `There is no ${path}.`;
  const hint =
    build.image !== undefined
      ? 'Write a Dockerfile with the command of that image (docker inspect shows Entrypoint and Cmd), and remove image from [build]; then run init again:'
      : 'Write a Dockerfile for the app, such as fly launch makes, and name it in [build]; then run init again:';
  return refuse(why, [hint, `  FROM ${from}`, '  CMD ["the", "command", "of", "the", "app"]']);
}

export function refuseImage(image: Image, hasCommand: boolean): Refusal | undefined {
  const { base, baseName } = image;
  if (base.obstacle !== undefined) {
    return refuse(`The sidecar can't run in an image based on ${baseName}: ${base.obstacle}.`, [
      'Use a base such as debian:12-slim for the last stage,',
      'or run the sidecar as a second container: fly-affinity help operations.',
    ]);
  }
  if (!hasCommand) {
    return refuse(
      `The Dockerfile has neither CMD nor ENTRYPOINT, and those of ${baseName} are not known.`,
      [
        'Add the CMD that starts the app (docker inspect shows that of the base image), and run init again.',
      ],
    );
  }
  const words = [...(image.entrypoint?.words ?? []), ...(image.cmd?.words ?? [])];
  if (words.some((word) => word.includes(`${FOLDER}/start`))) {
    return refuse('The Dockerfile starts the sidecar already, written by hand.', [
      'fly-affinity doctor --fix checks the configuration and fixes it.',
    ]);
  }
  return undefined;
}
