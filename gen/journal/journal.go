// Package journal keeps the results of generation: an append-only file with one JSON row per event. A row counts
// once Append has returned, which is after the disk has it; what a killed program left half-written is taken off
// when the file is opened again. One program at a time may write.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Name is the journal's name in the folder of a day.
const Name = "journal.jsonl"

// maxRow is the size of the longest row that is read, in bytes.
const maxRow = 64 << 20

// ErrLocked says that another program writes the journal.
var ErrLocked = errors.New("another run is writing here")

// ErrTwice says that a key that has succeeded was to succeed again.
var ErrTwice = errors.New("the key has a success already")

// Journal is an open journal. Its methods may be called from several goroutines.
type Journal struct {
	path     string
	f        *os.File
	Repaired int64 // bytes of a torn last row that were taken off by Open
	Damaged  []int // numbers of the lines before the last that are no rows; they are left as they are

	mu      sync.Mutex // guards what follows
	next    *batch
	taken   map[string]bool // keys with a success, written or about to be
	failure error           // the journal takes no more rows

	write sync.Mutex // held while a batch goes to the disk
	size  int64
}

// batch is the rows that one write and one sync take to the disk.
type batch struct {
	text []byte
	done bool
	err  error
}

// Open opens or creates the journal in the folder dir, which is created too, locks it, and repairs its end.
func Open(dir string) (*Journal, error) {
	path := filepath.Join(dir, Name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{path: path, f: f, next: &batch{}, taken: map[string]bool{}}
	if err := j.open(dir); err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	return j, nil
}

func (j *Journal) open(dir string) error {
	for try := 0; ; try++ {
		err := syscall.Flock(int(j.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock: %w", err)
		}
		if try == 10 {
			return ErrLocked
		}
		time.Sleep(20 * time.Millisecond) // Locked holds it for a moment too
	}
	if err := j.repair(); err != nil {
		return err
	}
	d, err := os.Open(dir) // so that a new file's name is on the disk too
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// Locked tells whether a program writes the journal in the folder dir.
func Locked(dir string) bool {
	f, err := os.Open(filepath.Join(dir, Name))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// repair finds the end of the last good row and cuts off what a crash left behind it. A last row that is whole but
// for its line end gets one.
func (j *Journal) repair() error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	good, last := int64(0), 0
	var bad []int
	whole := true
	err = scan(j.f, func(line int, offset int64, text []byte, ended bool) error {
		var r Row
		if json.Unmarshal(text, &r) != nil || r.Key == "" {
			bad = append(bad, line)
			return nil
		}
		if r.OK() {
			j.taken[r.Key] = true
		}
		good, last, whole = offset+int64(len(text)), line, ended
		if ended {
			good++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, line := range bad {
		if line < last {
			j.Damaged = append(j.Damaged, line)
		}
	}
	j.size, j.Repaired = good, info.Size()-good
	if err := j.f.Truncate(good); err != nil {
		return err
	}
	if !whole {
		if _, err := j.f.WriteAt([]byte("\n"), good); err != nil {
			return err
		}
		j.size++
	}
	return j.f.Sync()
}

// Path is the file.
func (j *Journal) Path() string { return j.path }

// Size is the length of the file in bytes, which is where the next row begins.
func (j *Journal) Size() int64 {
	j.write.Lock()
	defer j.write.Unlock()
	return j.size
}

// Append adds rows, all or none, and returns when they are on the disk; calls at the same time share a sync. A
// second success of a key is refused with ErrTwice. After an error of the disk the file ends with the last
// whole row, and nothing more is taken.
func (j *Journal) Append(rows ...*Row) error {
	text, err := encode(rows)
	if err != nil {
		return fmt.Errorf("append to %s: %w", j.path, err)
	}
	j.mu.Lock()
	if j.failure != nil {
		defer j.mu.Unlock()
		return j.failure
	}
	for i, r := range rows {
		if r.OK() && j.taken[r.Key] {
			for _, before := range rows[:i] { // which are not written either
				if before.OK() {
					delete(j.taken, before.Key)
				}
			}
			j.mu.Unlock()
			return fmt.Errorf("append to %s: key %s: %w", j.path, r.Key, ErrTwice)
		}
		if r.OK() {
			j.taken[r.Key] = true
		}
	}
	b := j.next
	b.text = append(b.text, text...)
	j.mu.Unlock()

	j.write.Lock()
	defer j.write.Unlock()
	if !b.done {
		j.flush(b)
	}
	return b.err
}

// flush takes a batch, which is the next one, to the disk. j.write is held.
func (j *Journal) flush(b *batch) {
	j.mu.Lock()
	j.next = &batch{}
	err := j.failure
	j.mu.Unlock()
	if err == nil {
		if _, err = j.f.WriteAt(b.text, j.size); err == nil {
			err = j.f.Sync()
		}
		if err == nil {
			j.size += int64(len(b.text))
		} else {
			err = fmt.Errorf("append to %s: %w", j.path, errors.Join(err, j.f.Truncate(j.size)))
			j.mu.Lock()
			j.failure = err
			j.mu.Unlock()
		}
	}
	b.done, b.err = true, err
}

// Close unlocks and closes the journal.
func (j *Journal) Close() error {
	j.write.Lock()
	defer j.write.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == nil {
		j.failure = fmt.Errorf("append to %s: %w", j.path, os.ErrClosed)
	}
	return j.f.Close()
}

// Row reads the row that begins at an offset, as Read gives it.
func (j *Journal) Row(offset int64) (*Row, error) {
	text, err := bufio.NewReader(io.NewSectionReader(j.f, offset, maxRow)).ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		text, err = bufio.NewReaderSize(io.NewSectionReader(j.f, offset, maxRow), maxRow).ReadBytes('\n')
	}
	if err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", j.path, offset, err)
	}
	r := &Row{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", j.path, offset, err)
	}
	return r, nil
}

// Read calls f with every row of a journal from an offset on, and where it begins. It needs no lock: a row that is
// being written, or is damaged, is left out.
func Read(path string, from int64, f func(offset int64, r *Row) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	defer file.Close()
	err = scan(io.NewSectionReader(file, from, 1<<62), func(_ int, offset int64, text []byte, ended bool) error {
		var r Row
		if !ended || json.Unmarshal(text, &r) != nil || r.Key == "" {
			return nil
		}
		return f(from+offset, &r)
	})
	if err != nil {
		return fmt.Errorf("read journal %s: %w", path, err)
	}
	return nil
}

// scan calls f with every line, without its line end, and says whether it has one.
func scan(r io.Reader, f func(line int, offset int64, text []byte, ended bool) error) error {
	b := bufio.NewReaderSize(r, 1<<20)
	offset := int64(0)
	for line := 1; ; line++ {
		var text []byte
		for {
			part, err := b.ReadSlice('\n')
			text = append(text, part...)
			if err == nil {
				break
			}
			if errors.Is(err, io.EOF) {
				if len(text) > 0 {
					return f(line, offset, text, false)
				}
				return nil
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return err
			}
			if len(text) > maxRow {
				return fmt.Errorf("line %d: got more than %d bytes, want a row", line, maxRow)
			}
		}
		if err := f(line, offset, text[:len(text)-1], true); err != nil {
			return err
		}
		offset += int64(len(text))
	}
}

func encode(rows []*Row) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, r := range rows {
		if r.Key == "" {
			return nil, errors.New("row: got no key, want one")
		}
		if err := e.Encode(r); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
