"""faiss, exact inner products: the best k rows of a table for each query, on one thread.

One argument, the settings as JSON: `arrays`, an npz file of `queries` and `table`, and `k`. Reads
lines on stdin; for each it searches once for all queries and prints the processor seconds.
"""

import json
import sys
import time

import faiss
import numpy as np

settings = json.loads(sys.argv[1])
faiss.omp_set_num_threads(1)
arrays = np.load(settings["arrays"])
index = faiss.IndexFlatIP(arrays["table"].shape[1])
index.add(arrays["table"])
for _ in sys.stdin:
    begun = time.process_time()
    index.search(arrays["queries"], settings["k"])
    print(
        json.dumps({"cpu_s": time.process_time() - begun, "faiss": faiss.__version__}), flush=True
    )
