//go:build !linux

package atomicfile

import (
	"errors"
	"os"
)

// fallocate is not portable; Preallocate then checks the free space.
func fallocate(*os.File, int64) error { return errors.ErrUnsupported }

// startWriteback is left to the kernel.
func startWriteback(*os.File) {}
