import type { Conversation, Message, ModelState, Person, Problem } from '../api/types';

/** The frames of `/ws`, as docs/websocket.md has them. */
export type StreamEvent =
  | { kind: 'message.created'; conversation: string; message: Message }
  | {
      kind: 'answer.delta';
      conversation: string;
      message: string;
      part: number;
      index: number;
      text: string;
      thinking: boolean;
    }
  | { kind: 'answer.done'; conversation: string; message: Message; stats?: unknown }
  | { kind: 'conversation.created'; conversation: Conversation }
  | { kind: 'conversation.updated'; conversation: Conversation }
  | { kind: 'conversation.deleted'; conversation: string }
  | { kind: 'model.state'; state: ModelState }
  | { kind: 'queue'; conversation: string; message: string; position: number };

export type Delta = Extract<StreamEvent, { kind: 'answer.delta' }>;

export interface Authenticated {
  type: 'authenticated';
  person: Person;
  epoch: string;
  seq: number;
  resumed: boolean;
  heartbeat_seconds: number;
}

export interface EventFrame {
  type: 'event';
  seq: number;
  event: StreamEvent;
}

export type ServerFrame =
  | Authenticated
  | EventFrame
  | { type: 'accepted'; ref: string; message: string; answer: string }
  | { type: 'cancelled'; ref: string }
  | { type: 'pong'; ref: string }
  | ({ type: 'error'; ref?: string } & Partial<Problem>);

export type ClientFrame =
  | { type: 'authenticate'; token: string; resume?: { epoch: string; seq: number } }
  | {
      type: 'send';
      ref: string;
      conversation: string;
      text: string;
      id?: string;
      parent?: string;
    }
  | { type: 'cancel'; ref: string; message: string }
  | { type: 'ping'; ref: string };

export const Close = {
  done: 1000,
  /** Never sent: what a browser tells of a connection that ended without a word. */
  lost: 1006,
  tooBig: 1009,
  badFrame: 4000,
  signedOut: 4001,
  forbidden: 4003,
  tooSlow: 4008,
  locked: 4023,
} as const;
