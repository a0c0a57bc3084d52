// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/injector_hooks: who writes names of hooks to it has them hooked for as long as the file is open, however it is
 * closed. After an error of write(), read() says which function it was about.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "injector_hooks.h"

/* An open file. */
struct control {
	/* Bits: the hooks that it asked for. */
	unsigned long hooks;
	/* What the last error was about. */
	const char *failed;
};

static int control_open(struct inode *inode, struct file *file)
{
	struct control *control = kzalloc(sizeof(*control), GFP_KERNEL);

	if (!control)
		return -ENOMEM;
	file->private_data = control;
	return 0;
}

static int enable(struct control *control, const char *name)
{
	for (int number = 0; number < INJECTOR_HOOKS; number++) {
		int error;

		if (strcmp(injector_hooks[number].name, name))
			continue;
		if (control->hooks & BIT(number))
			return 0;
		error = injector_enable(number, &control->failed);
		if (!error)
			control->hooks |= BIT(number);
		return error;
	}
	control->failed = "name";
	return -EINVAL;
}

/* Names with blanks between them, in one piece. */
static ssize_t control_write(struct file *file, const char __user *from, size_t length, loff_t *offset)
{
	struct control *control = file->private_data;
	char names[128], *rest = names, *name;

	if (length >= sizeof(names))
		return -EINVAL;
	if (copy_from_user(names, from, length))
		return -EFAULT;
	names[length] = '\0';
	control->failed = NULL;
	while ((name = strsep(&rest, " \n"))) {
		int error = *name ? enable(control, name) : 0;

		if (error)
			return error;
	}
	return length;
}

static ssize_t control_read(struct file *file, char __user *to, size_t length, loff_t *offset)
{
	struct control *control = file->private_data;
	const char *failed = control->failed ?: "";

	return simple_read_from_buffer(to, length, offset, failed, strlen(failed));
}

static int control_release(struct inode *inode, struct file *file)
{
	struct control *control = file->private_data;

	for (int number = 0; number < INJECTOR_HOOKS; number++)
		if (control->hooks & BIT(number))
			injector_disable(number);
	kfree(control);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = control_open,
	.write = control_write,
	.read = control_read,
	.release = control_release,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "injector_hooks",
	.fops = &operations,
	.mode = 0600,
};

int injector_control_add(void)
{
	return misc_register(&device);
}

void injector_control_remove(void)
{
	misc_deregister(&device);
}
