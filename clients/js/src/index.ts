export { CLOSE_CODES, afterClose, type AfterClose } from './close.js';
export { connect } from './connection.js';
export { PostriderError, UnauthorizedError } from './errors.js';
export { memoryStorage, webStorage, type PositionStorage } from './storage.js';
export type { WebSocketConstructor, WebSocketLike } from './runtime.js';
export type {
  Address,
  Connection,
  Events,
  Gap,
  Message,
  Options,
  Positions,
  Session,
  State,
  StateChange,
} from './types.js';
