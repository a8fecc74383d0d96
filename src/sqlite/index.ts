export { type DatabaseContents, type DoctorReport, doctor, type Finding } from './doctor.ts';
export { openSqlite, type SqliteOptions, type SqliteStore } from './open-sqlite.ts';
export type { StoreFact } from './store-thread.ts';
