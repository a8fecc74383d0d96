export { archivedLog } from './archived-log.ts';
export { type OpenSearchArchive, openSearchArchive } from './opensearch-archive.ts';
export type { ArchiveFact, OpenSearchArchiveOptions, OpenSearchAuth } from './options.ts';
