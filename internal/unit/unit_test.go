package unit

import (
	"math"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 1234: "1.23 kB", 9_994: "9.99 kB", 9_995: "10.0 kB", 99_949: "99.9 kB", 99_950: "100 kB",
		999_499: "999 kB", 999_500: "1.00 MB", 8_044_936_192: "8.04 GB", 999_999_999: "1.00 GB", -2_500: "-2.50 kB",
		math.MaxInt64: "9223 PB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 320_000: "320 K", 596_049_920: "596 M", 4_022_468_096: "4.02 B", 1_000_000_000_000: "1.00 T"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	if got, want := Rate(812_000_000, time.Second), "812 MB/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Rate(1, 0), "-"; got != want {
		t.Errorf("no time: got %q, want %q", got, want)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                      "0 s",
		820 * time.Microsecond: "820 µs", 15 * time.Millisecond: "15 ms", 12_400 * time.Millisecond: "12.4 s",
		185 * time.Second: "3m05s", 130 * time.Minute: "2h10m",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d): got %q, want %q", d, got, want)
		}
	}
}
