// Package unit writes quantities for people to read: bytes, rates, times, counts.
package unit

import (
	"fmt"
	"strconv"
	"time"
)

// Bytes formats n with a decimal unit (1 kB = 1000 B) and three significant digits: "8.04 GB".
func Bytes(n int64) string {
	if n < 1000 && n > -1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := scale(float64(n), 1000, 5)
	return digits(v) + " " + [...]string{"B", "kB", "MB", "GB", "TB", "PB"}[i]
}

// Count formats a number of things, such as parameters: "4.02 B", "596 M", "320 K", "17".
func Count(n int64) string {
	if n < 1000 && n > -1000 {
		return strconv.FormatInt(n, 10)
	}
	v, i := scale(float64(n), 1000, 4)
	return digits(v) + " " + [...]string{"", "K", "M", "B", "T"}[i]
}

// Rate formats n bytes in d as "812 MB/s"; no time at all is no rate ("-").
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return Bytes(int64(float64(n)/d.Seconds())) + "/s"
}

// Duration formats d with a precision that fits its size: "820 µs", "12.4 s", "3m05s", "2h10m".
func Duration(d time.Duration) string {
	switch {
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// scale divides v by step until it is below step once rounded to three digits, at most max times.
func scale(v, step float64, max int) (float64, int) {
	i := 0
	for i < max && (v >= step-0.5 || v <= -step+0.5) {
		v /= step
		i++
	}
	return v, i
}

// digits writes v, |v| < 1000, with three significant digits.
func digits(v float64) string {
	abs := v
	if abs < 0 {
		abs = -abs
	}
	precision := 0
	switch {
	case abs < 9.995:
		precision = 2
	case abs < 99.95:
		precision = 1
	}
	return strconv.FormatFloat(v, 'f', precision, 64)
}
