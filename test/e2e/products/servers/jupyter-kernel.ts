/**
 * A kernel that counts its executions, behind the WebSocket of its channels
 * (https://jupyter-client.readthedocs.io/en/latest/messaging.html).
 */
import { randomUUID } from 'node:crypto';
import { deserialize, serialize } from '@jupyterlab/services/lib/kernel/serialize.js';
import type { KernelMessage } from '@jupyterlab/services';
import type { WebSocket } from 'ws';
import { HERE } from '../../apps/door.ts';

export interface Kernel {
  readonly id: string;
  executions: number;
}

type Message = KernelMessage.IMessage;
type Reply = (channel: 'shell' | 'iopub', type: string, content: object) => void;

const KERNEL_INFO = {
  ...{ status: 'ok', protocol_version: '5.3', banner: '', help_links: [] },
  ...{ implementation: 'counting', implementation_version: '1.0.0' },
  language_info: { name: 'count', version: '1', mimetype: 'text/plain', file_extension: '.txt' },
};

export function connectToKernel(socket: WebSocket, kernel: Kernel): void {
  socket.binaryType = 'arraybuffer';
  socket.on('message', (data: ArrayBuffer) => {
    const request = deserialize(data, socket.protocol);
    const reply: Reply = (channel, type, content) => {
      socket.send(serialize(messageFor(request, channel, type, content), socket.protocol));
    };
    reply('iopub', 'status', { execution_state: 'busy' });
    if (request.header.msg_type === 'kernel_info_request') {
      reply('shell', 'kernel_info_reply', KERNEL_INFO);
    } else if (request.header.msg_type === 'execute_request') {
      execute(kernel, reply);
    }
    reply('iopub', 'status', { execution_state: 'idle' });
  });
}

function execute(kernel: Kernel, reply: Reply): void {
  kernel.executions += 1;
  const execution_count = kernel.executions;
  const data = { 'application/json': { ...HERE, count: kernel.executions } };
  reply('iopub', 'execute_result', { execution_count, data, metadata: {} });
  reply('shell', 'execute_reply', { status: 'ok', execution_count, user_expressions: {} });
}

function messageFor(request: Message, channel: string, type: string, content: object): Message {
  const { session } = request.header;
  const header = {
    ...{ msg_id: randomUUID(), msg_type: type, session, username: 'kernel', version: '5.3' },
    date: new Date(0).toISOString(),
  };
  const parent_header = request.header;
  return {
    channel,
    header,
    parent_header,
    metadata: {},
    content,
    buffers: [],
  } as unknown as Message;
}
