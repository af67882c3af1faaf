import type { components } from './schema';

type Schemas = components['schemas'];
export type Stage = Schemas['State']['stage'];
export type Keychain = Schemas['Keychain'];
export type HeldBackup = Schemas['HeldBackup'];
export type Person = Schemas['Person'];
export type Session = Schemas['Session'];
export type SessionInfo = Schemas['SessionInfo'];
export type Conversation = Schemas['Conversation'];
export type Message = Schemas['Message'];
export type MessagePart = Message['parts'][number];
export type Module = Schemas['Module'];
export type Token = Schemas['Token'];
export type Model = Schemas['Model'];
export type ModelState = Schemas['ModelState'];
export type Wrap = Schemas['Wrap'];
export type Problem = Schemas['Problem'];
export type SearchHit = Schemas['SearchHit'];
