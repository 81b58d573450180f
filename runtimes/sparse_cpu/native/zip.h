/* The directory of a zip archive. */
#ifndef ES_ZIP_H
#define ES_ZIP_H

#include "npz.h"

/* Fill entries, sorted by name, and what belongs to them; 0 on failure. Anything that two readers could understand
 * in two ways is refused: names that come twice, data that overlap, a directory that does not end where its end
 * says, comments at the end, encryption, volumes. */
int es_zip_directory(es_npz *npz, es_fault *fault);

/* Where the data of an entry begin; -1 on failure: its local header is another's, or its data do not fit before
 * `limit`. */
int64_t es_zip_data(const es_npz *npz, const es_entry *entry, es_fault *fault);

/* Order by name, for bsearch too. */
int es_compare_names(const void *one, const void *other);

#endif
