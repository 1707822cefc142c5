# What a process may not do within a unit's sandbox: tries each thing, and says `NAME denied` or `NAME allowed`.
# usage: denied.pl OTHERS-STATE     a folder of another user's
#
# The machine has /home/denied-probe, /tmp/denied-probe and /dev/denied-probe, which everybody may read but for a sandbox.
#
# Perl, because every Debian has it. System calls are those of x86_64. Nothing here does harm where it is allowed: calls
# that would change the machine get arguments that fail later.

use strict;
use warnings;
use Errno qw(EPERM EACCES EROFS ENOENT EAFNOSUPPORT ENOTDIR ENXIO);
use Fcntl qw(O_RDONLY O_WRONLY O_CREAT);
use Socket;

my ($others_state) = @ARGV;
my %REFUSALS = map { $_ => 1 } (EPERM, EACCES, EROFS, EAFNOSUPPORT);
# For what is not there at all within.
my %HIDDEN = (%REFUSALS, ENOENT, 1, ENXIO, 1);

sub told {
    my ($name, $refusals, $done) = @_;
    my $error = $! + 0;
    my $denied = !$done && $refusals->{$error};
    print "$name ", ($denied ? "denied" : "allowed"), $done ? "" : " ($!)", "\n";
}

sub call {
    my ($name, @arguments) = @_;
    $! = 0;
    my $result = syscall(shift @arguments, @arguments);
    told($name, \%REFUSALS, $result != -1);
}

sub writes {
    my ($name, $path) = @_;
    my $done = sysopen(my $file, $path, O_WRONLY | O_CREAT, 0600);
    told($name, \%REFUSALS, $done);
    unlink $path if $done;
}

sub reads {
    my ($name, $path) = @_;
    told($name, \%HIDDEN, sysopen(my $file, $path, O_RDONLY));
}

sub listens {
    my ($name, $family, $type, $address) = @_;
    my $socket;
    my $done = socket($socket, $family, $type, 0) && bind($socket, $address);
    told($name, \%REFUSALS, $done);
}

# Files.
writes("write-etc", "/etc/denied-probe");
writes("write-usr", "/usr/denied-probe");
writes("write-var", "/var/denied-probe");
writes("write-log", "/var/log/denied-probe");
writes("write-run", "/run/denied-probe");
writes("write-boot", "/boot/denied-probe");
writes("write-cgroup", "/sys/fs/cgroup/cgroup.procs");
reads("read-shadow", "/etc/shadow");
reads("read-home-of-root", "/root/.profile");
reads("read-state-of-another", "$others_state");
reads("read-homes", "/home/denied-probe");
reads("read-temporary-files-of-others", "/tmp/denied-probe");
reads("device-that-all-may-read", "/dev/denied-probe");
reads("device-of-kernel-log", "/dev/kmsg");
reads("device-of-terminals", "/dev/tty0");
reads("process-of-another", "/proc/1/status");
reads("kernel-settings", "/proc/sys/kernel/hostname");

# Sockets.
listens("listen-tcp", AF_INET, SOCK_STREAM, pack_sockaddr_in(0, INADDR_ANY));
listens("listen-tcp-6", AF_INET6, SOCK_STREAM, pack_sockaddr_in6(0, "\0" x 16));
listens("listen-udp", AF_INET, SOCK_DGRAM, pack_sockaddr_in(0, INADDR_ANY));
told("socket-netlink", \%REFUSALS, socket(my $netlink, 16, SOCK_RAW, 0));
told("socket-packet", \%REFUSALS, socket(my $packet, 17, SOCK_RAW, 0));
told("socket-raw", \%REFUSALS, socket(my $raw, AF_INET, SOCK_RAW, 1));
told("socket-vsock", \%REFUSALS, socket(my $vsock, 40, SOCK_STREAM, 0));

# Memory that can be written and run: four kilobytes, private and anonymous.
call("memory-write-and-run", 9, 0, 4096, 7, 0x22, -1, 0);

# The same in two steps: memory that was written becomes such as can be run.
{
    my $memory = syscall(9, 0, 4096, 3, 0x22, -1, 0);
    call("memory-made-executable", 10, $memory, 4096, 5);
    call("memory-made-executable-by-key", 329, $memory, 4096, 5, -1);
}

# System calls.
call("ptrace", 101, 16, 0, 0, 0);
call("mount", 165, 0, 0, 0, 0, 0);
call("pivot-root", 155, 0, 0);
call("chroot", 161, "/");
call("unshare-network", 272, 0x40000000);
call("load-module", 175, 0, 0, 0);
call("bpf", 321, 0, 0, 0);
call("perf-events", 298, 0, 0, 0, 0, 0);
call("reboot", 169, 0, 0, 0, 0);
call("swap", 167, 0, 0);
call("set-clock", 164, 0, 0);
call("set-host-name", 170, 0, -1);
call("set-user", 105, $> + 0);
call("set-groups", 116, 0, 0);
call("key-ring", 250, 0, -3, 1);
call("lock-memory", 149, 0, 0);
call("personality", 135, 0x0008);
call("process-memory-of-another", 310, 1, 0, 0, 0, 0, 0);
call("write-process-memory-of-another", 311, $$, 0, 0, 0, 0, 0);
call("log-of-the-kernel", 103, 10, 0, 0);
call("own-priority", 141, 0, 0, 0);
call("own-processor", 203, 0, 8, pack("Q", ~0));
call("asynchronous-input", 206, 1, my $context = pack("Q", 0));
call("rings-of-input", 425, 1, my $ring = "\0" x 120);
call("accounting", 163, "/nowhere");
call("join-namespace", 308, -1, 0x40000000);
call("file-handles", 304, 0, 0, 0);
call("io-permissions", 173, 0, 0, 0);
# A priority that there is not: a process that really got one could starve.
my $realtime = pack("i", 0);
call("real-time", 144, 0, 1, $realtime);

# A file that runs as its owner, where files may be written.
my $state = $ENV{STATE_DIRECTORY} // "/tmp";
my $path = "$state/denied-probe";
if (sysopen(my $file, $path, O_WRONLY | O_CREAT, 0600)) {
    close $file;
    print "write-state allowed\n";
    told("set-user-id-file", \%REFUSALS, chmod(04700, $path));
    unlink $path;
} else {
    print "write-state denied ($!)\n";
}
# What is created without a mode of its own.
if (sysopen(my $file, $path, O_WRONLY | O_CREAT, 0666)) {
    my $mode = (stat $file)[2];
    print "files-for-others ", ($mode & 077 ? "allowed" : "denied"), "\n";
    unlink $path;
}

# Calls of another architecture, here x32: the filter ends who makes them; without it there may be no such calls, or there are.
{
    my $child = fork // die "no child: $!";
    if ($child == 0) { syscall(0x40000000 + 39); exit 0 }
    waitpid $child, 0;
    print "calls-of-another-architecture ", (($? & 127) == 31 ? "denied" : "allowed"), "\n";
}

# What the kernel says of the process.
open(my $status, "<", "/proc/self/status") or die "no status: $!";
my %status = map { /^(\w+):\s*(\S+)/ ? ($1 => $2) : () } <$status>;
print "capabilities-$_ ", ($status{$_} =~ /^0+$/ ? "denied" : "allowed ($status{$_})"), "\n" for qw(CapInh CapPrm CapEff CapBnd CapAmb);
print "new-privileges ", ($status{NoNewPrivs} ? "denied" : "allowed"), "\n";
print "all-system-calls ", ($status{Seccomp} == 2 ? "denied" : "allowed"), "\n";

open(my $limits, "<", "/proc/self/limits") or die "no limits: $!";
my ($core) = map { /^Max core file size\s+(\S+)/ ? $1 : () } <$limits>;
print "dump-memory ", ($core eq "0" ? "denied" : "allowed ($core)"), "\n";
# Which mounts and shared memory it sees: told apart by who reads this.
print "$_ ", readlink("/proc/self/ns/$_"), "\n" for qw(mnt ipc);

# After this, where it is allowed, the process is nobody.
call("unshare-users", 272, 0x10000000);

# Last: when it is allowed, the shell says so.
$! = 0;
exec { "/bin/sh" } "sh", "-c", "echo run-shell allowed" or told("run-shell", \%REFUSALS, 0);
