// Package bench measures tokens per second by the method of llama.cpp's llama-bench
// (tools/llama-bench/llama-bench.cpp), so that the figures can be put side by side.
//
// A test processes a prompt of n_prompt random tokens (pp), generates n_gen tokens one at a time (tg),
// or both in one timing, with n_depth tokens already in the KV cache. Each test has a context of its own
// with n_prompt + n_gen + n_depth positions. Unless NoWarmup is set, the whole prompt and one generated
// token run once before. Each repetition clears the cache, fills it to n_depth outside the timing (the
// first time by decoding, later from a saved state), and is timed on its own:
//
//	rate_i = (n_prompt + n_gen) / t_i        avg_ts = mean(rate)        stddev_ts = sample deviation (n−1)
//
// Loading, tokenizing, sampling and detokenizing are not in the time. Beyond llama-bench a [Result] says
// how long the model took to load, how long a prompt took until its first token was chosen, and the
// largest memory of the process during the test.
package bench
