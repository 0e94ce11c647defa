/* The floor of exact joint counts in plain C: one increment for each (cell, expressed gene a, expressed gene b). The cells of
   each gene a come sorted by its code, the entries of each cell laid out: neither is part of the floor, nor are complete images. */
#include <stdint.h>

void count_events(int64_t genes_a, int64_t bins, int64_t counters, const int64_t *bucket, const int32_t *cells,
                  const uint32_t *start, const uint16_t *offset, uint32_t *table) {
    for (int64_t row = 0; row < genes_a * bins; row++) {
        uint32_t *restrict counter = table + row * counters;
        int64_t gene = row / bins, bin = row % bins;
        for (int64_t i = bucket[gene * (bins + 1) + bin]; i < bucket[gene * (bins + 1) + bin + 1]; i++)
            for (uint32_t e = start[cells[i]]; e < start[cells[i] + 1]; e++) counter[offset[e]]++;
    }
}
