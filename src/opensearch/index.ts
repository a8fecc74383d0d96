export { archivedLog } from './archived-log.ts';
export {
  type ArchiveFact,
  type OpenSearchArchive,
  type OpenSearchArchiveOptions,
  type OpenSearchAuth,
  openSearchArchive,
} from './opensearch-archive.ts';
