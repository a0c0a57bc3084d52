// SPDX-License-Identifier: GPL-2.0
/*
 * Where a call goes that is failed: back to its caller. The registers are as the callback left them. The same as
 * just_return_func() in arch/x86/lib/error-inject.c, which kernels without CONFIG_FUNCTION_ERROR_INJECTION don't have.
 */
#include <linux/linkage.h>
#include <asm/ibt.h>
#include "callback.h"

asm(
	".text\n"
	".type injector_just_return, @function\n"
	".globl injector_just_return\n"
	".balign 16\n"
	"injector_just_return:\n"
		ASM_ENDBR
		ASM_RET
	".size injector_just_return, .-injector_just_return\n"
);
