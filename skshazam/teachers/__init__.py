"""What a teacher is, and how to get one."""

from skshazam.teachers._availability import (
    TeacherAvailability,
    check_availabilities,
    check_availability,
)
from skshazam.teachers._loading import load_teacher, unload_teachers
from skshazam.teachers._registry import (
    get_teacher,
    list_teachers,
    register_teacher,
    resolve_teachers,
    unregister_teacher,
)
from skshazam.teachers._spec import TeacherSpec
from skshazam.teachers._teacher import Teacher

__all__ = [
    "Teacher",
    "TeacherAvailability",
    "TeacherSpec",
    "check_availabilities",
    "check_availability",
    "get_teacher",
    "list_teachers",
    "load_teacher",
    "register_teacher",
    "resolve_teachers",
    "unload_teachers",
    "unregister_teacher",
]
