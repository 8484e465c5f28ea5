/**
 * The report of a result that is still being written, as a page that follows it: a server on the
 * loopback interface, in a process of its own, so that the run it follows is not disturbed.
 *
 * Invariants:
 * - It listens on 127.0.0.1 alone, answers two paths, takes no input but the request line, and refuses
 *   requests under another host name, which a foreign page could make a browser send.
 * - Each answer is the report of the result as it is then. An event only says that there is another.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

import { Qcow2BenchError, systemCode } from '../../core/error.ts';
import { statSync } from '../../core/host-fs.ts';
import { errnoAdvice } from '../../core/system-error-name.ts';

export interface LiveReportOptions {
  /** The result files whose change is followed. */
  readonly paths: readonly string[];
  /**
   * The page as it is now.
   *
   * @param isSettled whether the result has not changed for a while: then there is time for a closer
   *   look at single cells.
   */
  readonly page: (isSettled: boolean) => Promise<string>;
}

const HOST = '127.0.0.1';
/** Between two looks at the files. */
const POLL_MS = 500;
/** Looks without a change, after which a result is settled. */
const SETTLED_POLLS = 6;
/** Pages that follow at once. */
const FOLLOWERS_MAX = 64;

export class LiveReport implements AsyncDisposable {
  readonly #options: LiveReportOptions;
  readonly #server: Server;
  readonly #followers = new Set<ServerResponse>();
  #timer: NodeJS.Timeout | undefined;
  #seen = '';
  #quiet = 0;
  #port = 0;
  /** The last page that could be made: a file may be read while another takes its place. */
  #page: string | undefined;

  constructor(options: LiveReportOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
  }

  /**
   * Listens; 0: on any free port. Answers the address of the page.
   *
   * @throws Qcow2BenchError `report-listen-failed`; what making the page throws.
   */
  async listen(port: number): Promise<string> {
    this.#seen = this.#state();
    this.#page = await this.#options.page(true);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenFailed(port, error)));
      this.#server.listen(port, HOST, resolve);
    });
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('internal error: a port');
    this.#port = address.port;
    this.#timer = setInterval(() => this.#look(), POLL_MS);
    return `http://${HOST}:${String(this.#port)}/`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    for (const follower of this.#followers) follower.end();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    const own = [`${HOST}:${String(this.#port)}`, `localhost:${String(this.#port)}`];
    if (!own.includes(headers.host ?? '')) {
      refuse(response, 403, 'This page is for this machine only.');
      return;
    }
    if (method !== 'GET' && method !== 'HEAD') {
      refuse(response, 405, 'Only GET is answered.');
      return;
    }
    const path = url.replace(/[?#].*$/s, '');
    if (path === '/events') {
      this.#follow(response);
      return;
    }
    if (path !== '/') {
      refuse(response, 404, 'There is one page here: /');
      return;
    }
    await this.#renew();
    const type = 'text/html; charset=utf-8';
    response.writeHead(200, {
      'Content-Type': type,
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(method === 'HEAD' ? undefined : this.#page);
  }

  async #renew(): Promise<void> {
    try {
      this.#page = await this.#options.page(this.#quiet >= SETTLED_POLLS);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
  }

  #follow(response: ServerResponse): void {
    if (this.#followers.size >= FOLLOWERS_MAX) {
      refuse(response, 503, 'Too many pages follow this result.');
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.write('retry: 2000\n\n');
    this.#followers.add(response);
    response.on('close', () => this.#followers.delete(response));
  }

  #look(): void {
    const state = this.#state();
    this.#quiet = state === this.#seen ? this.#quiet + 1 : 0;
    const isNew = state !== this.#seen || this.#quiet === SETTLED_POLLS;
    this.#seen = state;
    if (!isNew) return;
    for (const follower of this.#followers) follower.write('event: changed\ndata: \n\n');
  }

  /** Changes when a file does; a result file is replaced whole. */
  #state(): string {
    const states = this.#options.paths.map((path) => {
      const found = statSync(path, { throwIfNoEntry: false });
      return found === undefined ? '' : `${String(found.ino)} ${String(found.mtimeMs)} ${String(found.size)}`;
    });
    return states.join('\n');
  }
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.end(`${text}\n`);
}

function listenFailed(port: number, error: Error): Qcow2BenchError {
  const name = systemCode(error);
  const advice = name === undefined ? String(error) : `${name}${adviceOf(errnoAdvice(name))}`;
  const message = `--serve: listening on ${HOST} port ${String(port)} failed with ${advice}; --serve 0 takes any free port`;
  return new Qcow2BenchError('report-listen-failed', message, {}, error);
}

function adviceOf(text: string | undefined): string {
  return text === undefined ? '' : ` (${text})`;
}
